"""What a template is: recipes, the dialects that they come in, and the archives that COPY steps use.

Pure functions from untrusted input to frozen values; nothing here touches a sandbox or the database.
"""
