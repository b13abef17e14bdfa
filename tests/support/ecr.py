"""A registry of AWS that does not exist, and a key for it."""

from __future__ import annotations

ECR = "123456789012.dkr.ecr.eu-west-1.example.com"
KEY = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
