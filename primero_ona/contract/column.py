"""How a column, a field and a table are declared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    import pyarrow as pa

ColumnType = Literal["text", "date", "integer", "boolean", "timestamp", "timestamptz", "uuid"]
#: How a column bears on a child: `key` names the case, `quasi-identifier` can help to single a child out, `sensitive`
#: says something about it that must not be known, `none` is neither.
PersonalData = Literal["key", "quasi-identifier", "sensitive", "none"]

#: What the mapping does to the values of a field: see `mapping/rows.py`, which has a function for each.
PlaceRule = Literal["location", "province", "province_code", "district", "district_code"]
LabelRule = Literal["label", "labels", "label_or_code"]
CodeRule = Literal["option_name", "codes"]
OwnRule = Literal["date", "service_date", "case_source", "age", "age_group", "consent", "consent_status"]
Rule = PlaceRule | LabelRule | CodeRule | OwnRule

#: A uuid stays text in frames: pandas and Parquet have no common type for it, PostgreSQL reads the text.
_ARROW: dict[ColumnType, str] = {
    "text": "string", "uuid": "string", "date": "date32", "integer": "int32", "boolean": "bool", "timestamp": "timestamp[ms]",
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """One column of a table in ONA: the only place where anything is said of it.

    `purpose`: why it is filled, for the record of processing. `field`: the field of Primero that it is made of, which is
    asked for and stored; `rule`: how; without one, the mapping of the table makes the column itself. `origin`: the field of a
    column that names none in `field`. `day`: it is the age on the day that this field has, made at the pull, since the date of
    birth goes no further. `allowed`: its values, where they are few and fixed. `within`: smallest and largest number. `added`:
    this project brought it to ONA. `hidden`: the dashboards' views leave it out. `set_by_load`: it is not in the mapped frames.
    """

    name: str
    type: ColumnType
    description: str
    personal_data: PersonalData = "none"
    purpose: str = ""
    field: str | None = None
    rule: Rule | None = None
    day: str | None = None
    allowed: tuple[str, ...] | None = None
    within: tuple[int, int] | None = None
    nullable: bool = True
    added: bool = False
    hidden: bool = False
    set_by_load: bool = False
    origin: str | None = None

    @property
    def arrow_type(self) -> pa.DataType:
        """The type of the column in a mapped frame."""
        import pyarrow as pa  # noqa: PLC0415  every process that loads the graph imports the contract

        return pa.timestamp("ms", "UTC") if self.type == "timestamptz" else pa.type_for_alias(_ARROW[self.type])

    @property
    def labels(self) -> str | None:
        """The field whose table in `mapping/labels.yaml` gives the values, one or several joined with `, `."""
        return self.field if self.rule in get_args(LabelRule) else None

    @property
    def derived(self) -> bool:
        """Whether the column says something else than the field's own label."""
        return self.day is not None or self.rule in {"case_source", "consent_status", "age_group", *get_args(PlaceRule)}

    @property
    def has_options(self) -> bool:
        """Whether the values are options of Primero, or a few fixed texts."""
        return bool(self.labels or self.allowed or self.rule in get_args(CodeRule))


@dataclass(frozen=True)
class Field:
    """A field of Primero that is read for more than a column shows: how it bears on a child, and why it is read."""

    name: str
    personal_data: PersonalData
    purpose: str


@dataclass(frozen=True)
class Table:
    """One table in ONA; `key` is the name of its key column, which holds every value once and is never null.

    Where one column is not enough, the key goes on with `key_rest`. `section`: the subform of Primero whose elements are
    the rows; None for a table of cases, or of no records at all. `identity` names the columns of a mapped frame that tell
    its rows apart; in these frames `key` is the plain key, which rows may share. `deciding`: columns of the mapped frames
    that are not in ONA; the load decides by them which row bears a plain key. `fields`: read beside those of the columns.
    """

    name: str
    key: str
    description: str
    columns: tuple[Column, ...]
    key_rest: tuple[str, ...] = ()
    section: str | None = None
    identity: tuple[str, ...] = ()
    deciding: tuple[Column, ...] = ()
    fields: tuple[Field, ...] = ()

    @property
    def frame_columns(self) -> tuple[Column, ...]:
        """The columns of the mapped frames."""
        return (*self.mapped, *self.deciding)

    @property
    def mapped(self) -> tuple[Column, ...]:
        """The columns that ONA takes from the mapped frames: all but those that the load sets itself."""
        return tuple(column for column in self.columns if not column.set_by_load)

    @property
    def mapped_names(self) -> list[str]:
        """The names of the mapped columns, in the order of the mapped frames."""
        return [column.name for column in self.mapped]

    @property
    def field_names(self) -> tuple[str, ...]:
        """The fields of Primero that are read for the table, each once: those of its columns, then the others."""
        of_columns = [column.day or column.field for column in self.columns if column.field]
        return tuple(dict.fromkeys([*of_columns, *(field.name for field in self.fields)]))

    @property
    def ages(self) -> tuple[Column, ...]:
        """The columns that the pull makes of the date of birth."""
        return tuple(column for column in self.columns if column.day)

    def origins(self, column: Column) -> tuple[str, ...]:
        """The fields of Primero that a column is made of; those of the subform begin with its name."""
        names = filter(None, (column.field or column.origin, column.day))
        return tuple(f"{self.section}.{name}" if self.section and name in self.field_names else name for name in names)

    def column(self, name: str) -> Column:
        """The column of that name; KeyError where the table has none."""
        return {column.name: column for column in self.columns}[name]

    def arrow_schema(self) -> pa.Schema:
        """The Arrow schema of the mapped frames."""
        import pyarrow as pa  # noqa: PLC0415  as above

        return pa.schema([pa.field(c.name, c.arrow_type, nullable=c.nullable) for c in self.frame_columns])
