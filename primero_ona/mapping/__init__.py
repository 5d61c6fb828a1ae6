"""The rules: turn raw cases into rows of ONA's tables. Pure: no input, no output."""
