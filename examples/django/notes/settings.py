"""Django settings: what differs between hosts comes from the environment, the rest stands here."""

from pathlib import Path

from notes import environment

BASE_DIR = Path(__file__).resolve().parent.parent
# Everything that must outlive a release. On a server: /var/lib/notes.
DATA_DIR = Path(environment.text("NOTES_DATA", str(BASE_DIR)))

DEBUG = environment.flag("DEBUG")
SECRET_KEY = environment.secret_key(debug=DEBUG)

ALLOWED_HOSTS = environment.comma_list("ALLOWED_HOSTS") or ["localhost", "127.0.0.1", "[::1]"]
# Only needed where the browser sees another scheme or port than the proxy in front does.
CSRF_TRUSTED_ORIGINS = environment.comma_list("CSRF_TRUSTED_ORIGINS")

# NGINX ends TLS and overwrites this header, so that no client can forge it.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
# NGINX passes the Host header itself.
USE_X_FORWARDED_HOST = False
CSRF_COOKIE_SECURE = environment.flag("HTTPS_ONLY")
CSRF_COOKIE_HTTPONLY = True
X_FRAME_OPTIONS = "DENY"

INSTALLED_APPS = ["django.contrib.staticfiles", "notes.book"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "notes.urls"
WSGI_APPLICATION = "notes.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA_DIR / "db.sqlite3",
        "OPTIONS": {
            # Readers do not block the one writer; a writer waits for its turn instead of failing.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=5000;",
            "transaction_mode": "IMMEDIATE",
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "static_root"
MEDIA_ROOT = DATA_DIR / "media"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    # Names carry a hash of the content, so that NGINX may let browsers keep them for good.
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}
FILE_UPLOAD_PERMISSIONS = 0o640
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o750

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

# The journal adds time, unit and process; the rest is ours to say.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    # Without this entry Django writes nothing to stderr when DEBUG is off.
    "loggers": {"django": {"handlers": ["stderr"], "level": "INFO", "propagate": False}},
}
