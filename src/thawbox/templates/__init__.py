"""What a template is made from: recipes, the dialects of build requests, and the archives of COPY steps.

Pure functions turn untrusted input into frozen values. Nothing here touches a sandbox or the database.
"""
