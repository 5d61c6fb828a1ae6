"""What the floor and the peer ask for: the fields that primero-ona asks for."""

FIELDS = (
    "case_id_display,registration_date,oscar_number,disability_type,type_of_case,sex,age,date_of_birth,protection_concerns,"
    "type_of_placement,consent_reporting,location_current,location_caregiver,care_date,date_of_reintegration,"
    "date_closure,module_id,status,record_state,created_at,services_section"
)
