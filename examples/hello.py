"""Says hello from inside a sandbox."""

import os
import platform

import cowsay

cowsay.cow(f"{os.environ['GREETING']}: Python {platform.python_version()} on {platform.release()}")
