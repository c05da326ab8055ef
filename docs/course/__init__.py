"""Four pages for people who teach, one for each source document; each is a plain program: prose, code, pictures."""
