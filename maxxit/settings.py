"""Django settings. Policy is in `config/*.yaml`; addresses and secrets come from the environment (`env.py`)."""

from kombu.entity import Queue

from maxxit.core import logs, redact
from maxxit.env import BASE_DIR, read_env
from maxxit.pipeline.stages import ALERTS as ALERTS  # events that notify staff
from maxxit.pipeline.stages import QUEUES, ROUTES
from maxxit.pipeline.stages import WAKES as WAKES  # event -> tasks that it wakes
from maxxit.postgres import SESSION
from maxxit.web.unfold import UNFOLD as UNFOLD  # the admin theme

ENV = read_env()
PRODUCTION = ENV.production

SECRET_KEY = ENV.key
DEBUG = ENV.debug
ALLOWED_HOSTS = ENV.allowed_hosts
ROOT_URLCONF = "maxxit.urls"
ASGI_APPLICATION = "maxxit.asgi.application"
WSGI_APPLICATION = "maxxit.wsgi.application"
DATA_DIR = ENV.maxxit_data_dir

INSTALLED_APPS = [
    "maxxit.web",  # before unfold: it overrides the admin's index page and header
    "unfold",
    "unfold.contrib.filters",
    "maxxit.web.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django.contrib.humanize",
    "django_celery_beat",
    "django_structlog",
    "ninja",
    "django_otp",
    "django_otp.plugins.otp_static",
    "django_otp.plugins.otp_totp",
    "maxxit.events",
    "maxxit.market",
    "maxxit.notify",
    "maxxit.llm",
    "maxxit.knowledge",
    "maxxit.pipeline",
    "maxxit.learning",
    "maxxit.access",
    "maxxit.ops",
    "maxxit.replay",
    "maxxit.backtest",
    "maxxit.chat",
    "agents",
    "signals_app",
    "trading",
    "positions",
    "maxxit.bus",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "maxxit.access.inputs.refuse_nul",
    "maxxit.api.errors.method_not_allowed",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "maxxit.web.headers.content_security_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "maxxit.web.second_factor.required_for_staff",
    "maxxit.web.zones.viewers_zone",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# --- data ---------------------------------------------------------------------------------------------------
DATABASES = ENV.databases(SESSION)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": ENV.broker,
        "OPTIONS": {"serializer": "maxxit.core.json_cache.JsonSerializer"},
        "VERSION": 2,  # 1 was pickled
    }
}
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
FORMAT_MODULE_PATH = "maxxit.web.formats"

# --- static files: whitenoise serves them; production from `collectstatic`, a checkout from the packages --------
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles" if PRODUCTION else None
WHITENOISE_USE_FINDERS = not PRODUCTION
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if PRODUCTION
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}

# --- security: TLS only in production; a developer's machine has no certificate ----------------------------------
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
CSRF_TRUSTED_ORIGINS = ENV.csrf_trusted_origins
CSRF_COOKIE_SECURE = SESSION_COOKIE_SECURE = SECURE_SSL_REDIRECT = PRODUCTION
CSRF_COOKIE_SAMESITE = SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 12 * 3600
SESSION_ENGINE = "maxxit.access.sessions"
CSRF_FAILURE_VIEW = "maxxit.web.csrf.failure"
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if PRODUCTION else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = PRODUCTION
SECURE_REDIRECT_EXEMPT = [r"^health/", r"^metrics$"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if ENV.behind_proxy else None
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000_000
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "dashboard"
STAFF_SECOND_FACTOR = PRODUCTION if ENV.staff_second_factor is None else ENV.staff_second_factor
SIGN_UP = ENV.sign_up or ("invitation" if PRODUCTION else "open")
"""Who may create an account: open, invitation or closed."""
OTP_TOTP_ISSUER = "Maxxit"

# --- mail: sent by the notify worker alone, which has EMAIL_URL -----------------------------------------------------
PUBLIC_URL = ENV.site
globals().update(ENV.mail())  # EMAIL_HOST and the others

# --- logs ---------------------------------------------------------------------------------------------------
redact.know_environment()  # before the first line
LOGGING_CONFIG = None  # Django would configure it anew at each `django.setup()`
LOGGING = logs.configure(as_json=PRODUCTION if ENV.log_json is None else ENV.log_json, level=ENV.log_level)
logs.apply(LOGGING)
DJANGO_STRUCTLOG_CELERY_ENABLED = True

# --- Celery on Redis: the values were measured, see docs/operations-platform.md ----------------------------------
VISIBILITY_TIMEOUT = 900
"""Seconds after which Redis redelivers the message of a vanished worker."""
CELERY_BROKER_URL = CELERY_RESULT_BACKEND = ENV.broker
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": VISIBILITY_TIMEOUT,
    # Together: look for messages of vanished workers every 5 s (by default every 100 s).
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "queue_order_strategy": "priority",  # `-Q monitor,market`: the first queue has priority
    "socket_timeout": 30,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 25,
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_TASK_QUEUES = [Queue(name) for name in QUEUES]  # type: ignore[no-untyped-call]
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_CREATE_MISSING_QUEUES = False
CELERY_TASK_ROUTES = ROUTES
CELERY_ACCEPT_CONTENT = CELERY_RESULT_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = CELERY_RESULT_SERIALIZER = "json"
# Both are needed: the task of a killed worker is redelivered.
CELERY_TASK_ACKS_LATE = CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_IGNORE_RESULT = True
CELERY_RESULT_EXTENDED = True
CELERY_RESULT_EXPIRES = 24 * 3600
CELERY_TASK_TRACK_STARTED = True
CELERY_WORKER_SEND_TASK_EVENTS = CELERY_TASK_SEND_SENT_EVENT = True
# A task longer than the visibility timeout would run twice. The soft limit is enforced only with the hard one.
CELERY_TASK_TIME_LIMIT = VISIBILITY_TIMEOUT // 2 - 30
CELERY_TASK_SOFT_TIME_LIMIT = CELERY_TASK_TIME_LIMIT - 30
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = ENV.soft_shutdown_seconds
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False  # True loses acknowledged tasks
CELERY_WORKER_MAX_TASKS_PER_CHILD = 1000
CELERY_ENABLE_UTC = True
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 5
CELERY_BEAT_SYNC_EVERY = 1  # "last run" is saved at once, not every three minutes
DJANGO_CELERY_BEAT_TZ_AWARE = True
FLOWER_URL = ENV.flower_url or f"http://{ENV.bind}:{ENV.flower_port}"
