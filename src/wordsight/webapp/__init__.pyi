from .server import app as app
