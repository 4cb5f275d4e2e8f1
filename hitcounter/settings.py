"""The project's settings, read from the environment; README.md documents every variable in one table."""

import os
import re
from datetime import timedelta
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from typing import Any

from csp.constants import NONE, SELF
from environs import EnvError, validate
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from counters import conf
from hitcounter import VERSION, secrets
from hitcounter.environment import BASE_DIR, DATA_DIR, env, secret
from hitcounter.logs import FORMATTERS

LOOPBACK_NAMES = ["localhost", "127.0.0.1", "[::1]"]
SHORTEST_SECRET_KEY = 32
POSTGRESQL_SCHEMES = ("postgresql://", "postgres://")
_NAME = re.compile(r"\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_IPV6 = re.compile(r"\[([0-9A-Fa-f:.]+)\]")
#: What ends like this is an IPv4 address or nothing (https://url.spec.whatwg.org/#ends-in-a-number-checker).
_ENDS_IN_A_NUMBER = re.compile(r"(.*\.)?[0-9]+")


def _is_ip(host: str) -> bool:
    """An IPv4 address, or one of IPv6 in brackets."""
    bracketed = _IPV6.fullmatch(host)
    try:
        return bool(IPv6Address(bracketed[1]) if bracketed else IPv4Address(host))
    except AddressValueError:
        return False


def _is_host(name: str) -> bool:
    """An address, or a name as a Host header may have it."""
    return _is_ip(name) or bool(_NAME.fullmatch(name) and not _ENDS_IN_A_NUMBER.fullmatch(name))


def _address(name: str, value: str) -> tuple[str, int]:
    """Where to listen: an IP address or localhost, so that a slip of the pen is told before anything is started."""
    host, _, port = value.rpartition(":")
    if not ((host == "localhost" or _is_ip(host)) and port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise EnvError(
            f'Environment variable "{name}" invalid: {value!r} is no IP address and port, like 127.0.0.1:5000.'
        )
    return host, int(port)


def _hosts(names: list[str]) -> list[str]:
    """Names as a Host header has them, without a port; a dot in front means all names below, as Django has it."""
    for name in names:
        if not _is_host(name):
            raise EnvError(f'Environment variable "HITCOUNTER_HOSTS" invalid: {name!r} is not like counts.example.org.')
    return names


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _database(url: str) -> dict[str, Any]:
    """Django's settings for a libpq URL; what Django has no name for goes to the driver as it is."""
    if not url:
        raise EnvError(
            'Environment variable "DATABASE_URL" not set: manage.py sets it, other programs must be given it.'
        )
    try:
        parts: dict[str, Any] = conninfo_to_dict(url)
    except ProgrammingError as error:
        # libpq quotes what it stumbles over, which may be part of a password.
        reason = re.sub(r'".*"', "…", str(error).strip(), flags=re.DOTALL)
        if not url.startswith(POSTGRESQL_SCHEMES):
            reason = "it must be a PostgreSQL URL, like postgresql://user:password@localhost/hitcounter"
        raise EnvError(f'Environment variable "DATABASE_URL" invalid: {reason}.') from None
    named = {
        "NAME": parts.pop("dbname", ""),
        "USER": parts.pop("user", ""),
        "PASSWORD": parts.pop("password", ""),
        "HOST": parts.pop("host", ""),
        "PORT": parts.pop("port", ""),
    }
    # The pool gives up a connection that cannot be made when nobody waits for it any more. Else it would try again for
    # five minutes, with pauses that double, and after an outage be away for as long as that had lasted.
    pool = {"min_size": 0, "max_size": 10, "timeout": 2, "reconnect_timeout": 2}
    return {
        "ENGINE": "django.db.backends.postgresql",
        **named,
        "OPTIONS": {**parts, "pool": pool},
        "CONN_HEALTH_CHECKS": True,  # a pooled connection may be older than the server that it leads to
    }


def _secret_key() -> str:
    """The key from outside; where nothing but this computer reaches the service, one that is made and kept here."""
    key = secret("HITCOUNTER_SECRET_KEY")
    if not key and _is_loopback(BIND_HOST):
        return secrets.read_or_make(DATA_DIR / "secret-key")
    if not key:
        raise EnvError(
            'Environment variable "HITCOUNTER_SECRET_KEY" not set: a service that listens on more than a loopback '
            "address needs one, or HITCOUNTER_SECRET_KEY_FILE; `openssl rand -base64 48` makes one."
        )
    if len(key) < SHORTEST_SECRET_KEY:
        raise EnvError(
            f'Environment variable "HITCOUNTER_SECRET_KEY" invalid: it has fewer than {SHORTEST_SECRET_KEY} characters.'
        )
    return key


def _number(setting: conf.Number) -> int:
    return env.int(setting.name, setting.default, validate=validate.Range(setting.least, setting.greatest))


def _text(setting: conf.Text) -> str:
    return _checked(setting, env.str(setting.name, setting.default).strip())


def _file(setting: conf.Text) -> str:
    path = env.str(setting.name, setting.default).strip()
    return _checked(setting, path and str(BASE_DIR / path))


def _checked(setting: conf.Text, value: str) -> str:
    try:
        if value:
            setting.check(value)
    except ValueError as error:
        raise EnvError(f'Environment variable "{setting.name}" invalid: {error}') from None
    return value


HITCOUNTER_QUEUE: int = _number(conf.QUEUE)
HITCOUNTER_PATIENCE_SECONDS: int = _number(conf.PATIENCE_SECONDS)
HITCOUNTER_MAX_NEW_PATHS_PER_MINUTE: int = _number(conf.MAX_NEW_PATHS_PER_MINUTE)
HITCOUNTER_MAX_PATHS: int = _number(conf.MAX_PATHS)
HITCOUNTER_MAX_LOADTEST: int = _number(conf.MAX_LOADTEST)
HITCOUNTER_KEEP_HITS_DAYS: int = _number(conf.KEEP_HITS_DAYS)
HITCOUNTER_KEEP_HOURS_DAYS: int = _number(conf.KEEP_HOURS_DAYS)
if HITCOUNTER_KEEP_HOURS_DAYS < HITCOUNTER_KEEP_HITS_DAYS:
    raise EnvError(
        'Environment variable "HITCOUNTER_KEEP_HOURS_DAYS" invalid: '
        f"{HITCOUNTER_KEEP_HOURS_DAYS} is less than HITCOUNTER_KEEP_HITS_DAYS, {HITCOUNTER_KEEP_HITS_DAYS}."
    )
HITCOUNTER_CONSUMER_HEADER: str = _text(conf.CONSUMER_HEADER)
HITCOUNTER_COUNTRY_HEADER: str = _text(conf.COUNTRY_HEADER)
HITCOUNTER_GEOIP_DATABASE: str = _file(conf.GEOIP_DATABASE)
HITCOUNTER_TRUSTED_PROXIES: str = _text(conf.TRUSTED_PROXIES)
HITCOUNTER_FORWARDED_HEADER: str = _text(conf.FORWARDED_HEADER) or conf.FORWARDED_HEADER.default

BIND_HOST, BIND_PORT = _address("HITCOUNTER_BIND", env.str("HITCOUNTER_BIND", "127.0.0.1:5000"))
HITCOUNTER_BIND = f"{BIND_HOST}:{BIND_PORT}"
HITCOUNTER_PUBLISH = env.str("HITCOUNTER_PUBLISH", "")
#: Where it listens says nothing then, but where its port is published; elsewhere HITCOUNTER_PUBLISH says nothing.
HITCOUNTER_IN_CONTAINER = env.bool("HITCOUNTER_IN_CONTAINER", False)
PUBLISH_HOST, _ = _address("HITCOUNTER_PUBLISH", HITCOUNTER_PUBLISH or HITCOUNTER_BIND)
HITCOUNTER_HOSTS: list[str] = _hosts(env.list("HITCOUNTER_HOSTS", []))
#: Other names and trusted proxies both mean that others come in through a proxy.
FOR_LOCAL_USE = (
    _is_loopback(PUBLISH_HOST if HITCOUNTER_IN_CONTAINER else BIND_HOST)
    and not HITCOUNTER_HOSTS
    and not HITCOUNTER_TRUSTED_PROXIES
)
HITCOUNTER_WORKERS = env.int("HITCOUNTER_WORKERS", os.cpu_count() or 1, validate=validate.Range(1, 1024))
HITCOUNTER_OPEN = env.bool("HITCOUNTER_OPEN", FOR_LOCAL_USE)
#: Nobody has said so: what comes through a proxy is not for everybody then (counters/access.py).
HITCOUNTER_OPEN_BY_ITSELF = HITCOUNTER_OPEN and env.str("HITCOUNTER_OPEN", "") == ""
HITCOUNTER_TLS = env.bool("HITCOUNTER_TLS", not FOR_LOCAL_USE)
# Where this very service answers: an address that listens everywhere is reached over loopback.
_own_host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(BIND_HOST, BIND_HOST)  # noqa: S104 (compared, not bound)
HITCOUNTER_OWN_URL = f"http://{_own_host}:{BIND_PORT}"
HITCOUNTER_DATA_DIR = DATA_DIR
HITCOUNTER_LOG_FORMAT = env.str("HITCOUNTER_LOG_FORMAT", "text", validate=validate.OneOf(list(FORMATTERS)))
HITCOUNTER_VERSION = VERSION

SECRET_KEY = _secret_key()
#: Of the first user, who is made when there is none; on a loopback address one is made without it.
HITCOUNTER_ADMIN_PASSWORD = secret("HITCOUNTER_ADMIN_PASSWORD")
MAKES_SECRETS = _is_loopback(BIND_HOST)
DEBUG = False
ALLOWED_HOSTS = [*LOOPBACK_NAMES, BIND_HOST, *HITCOUNTER_HOSTS]

DATABASES = {"default": _database(secret("DATABASE_URL"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "hitcounter",
    "rest_framework_api_key",
    "counters",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "csp",
    "axes",
]
MIDDLEWARE = [
    "counters.api.observed.observed",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "counters.api.errors.DatabaseErrors",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "hitcounter.urls"
ASGI_APPLICATION = "hitcounter.asgi.application"
WSGI_APPLICATION = "hitcounter.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = LOGOUT_REDIRECT_URL = "overview"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
# Wrong logins (counters/logins.py): ten for a name from an address, or five times as many from there for any names.
AXES_HANDLER = "counters.logins.Attempts"
AXES_CLIENT_IP_CALLABLE = "counters.logins.hashed_address"
AXES_LOCKOUT_CALLABLE = "counters.dashboard.login.locked_out"
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"], "ip_address"]
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False

# A proxy in front speaks TLS, and says so; it must overwrite what clients send by that name.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HITCOUNTER_TLS else None
SECURE_SSL_REDIRECT = HITCOUNTER_TLS
# Who looks after the service asks it directly. What counts never comes here under ASGI, and counts over HTTP as well.
SECURE_REDIRECT_EXEMPT = [r"^healthz/", r"^metrics/?$", r"^api/", r"^pixel\.gif$"]
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if HITCOUNTER_TLS else 0
# This host's own matter: whether the names below it, and lists in browsers, should follow (W005, W021), is a decision
# about a domain of which this service may have one name among many. A proxy can add both.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HITCOUNTER_TLS
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# Pages load what this service serves, and nothing that stands in them runs or styles. (data: for the admin's and the
# API documentation's own images.)
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    }
}
CSRF_FAILURE_VIEW = "counters.dashboard.pages.csrf_failure"
# So that who is logged in can follow a link to a page from another site; against forged forms there are CSRF tokens.
SESSION_COOKIE_SAMESITE = "Lax"
# Many sites may share one host name on different ports (a laptop's loopback): a name of our own keeps them apart.
SESSION_COOKIE_NAME = "hitcounter_session"
CSRF_COOKIE_NAME = "hitcounter_csrf"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "counters.api.permissions.KeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["counters.api.permissions.Scoped"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Hit Counter",
    "DESCRIPTION": "Counts every request per URL path, and tells when, from where and with what they came.",
    "VERSION": VERSION,
    "OAS_VERSION": "3.1.1",
    "SERVE_PUBLIC": True,
    "SERVE_PERMISSIONS": ["counters.api.permissions.Scoped"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SORT_OPERATION_PARAMETERS": False,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "counters.api.schema.add_plain_views"],
}

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

# A body is kept in memory, never in a file: there may be no place for one. hitcounter/bodies.py lets no more through.
FILE_UPLOAD_MAX_MEMORY_SIZE = conf.MOST_BODY_BYTES + 1
DATA_UPLOAD_MAX_MEMORY_SIZE = conf.MOST_FORM_BYTES

STATIC_URL = "static/"
# Static files are found in the installed packages: nothing has to be collected before a start.
WHITENOISE_USE_FINDERS = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    # What was answered with an error is told by who answered it; here, only what failed with a traceback.
    "filters": {
        "failed": {"()": "django.utils.log.CallbackFilter", "callback": lambda record: bool(record.exc_info)},
        "bounded": {"()": "hitcounter.logs.Bounded"},
    },
    "formatters": {name: {"()": formatter} for name, formatter in FORMATTERS.items()},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": HITCOUNTER_LOG_FORMAT, "filters": ["bounded"]}
    },
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        "counters": {"level": "INFO"},
        "hitcounter": {"level": "INFO"},
        # A wrong Host header is the sender's mistake, answered 400: nobody has to be woken for it.
        "django.security.DisallowedHost": {"level": "CRITICAL"},
        "django.request": {"level": "ERROR", "filters": ["failed"]},
    },
}
