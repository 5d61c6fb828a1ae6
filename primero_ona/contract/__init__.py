"""The declaration of each table and column of ONA. Pure facts: primero/, mapping/ and ona/ follow them."""
