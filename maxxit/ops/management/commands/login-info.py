"""`manage.py login-info`: the addresses of `make up` and the login of its administrator."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model

from maxxit.core.commands import OpsCommand
from maxxit.ops import local, login


class Command(OpsCommand):
    help = "Show the addresses of `make up`, and the administrator's login while its password is the generated one."

    def run(self, **options: Any) -> Any:
        data_dir = Path(settings.DATA_DIR)
        known = login.kept(data_dir)
        if known and not get_user_model().objects.filter(username=known.name, password=known.hashed).exists():
            login.forget(data_dir)
            known = None
        found = local.addresses(settings.ENV)
        wide = max(map(len, found))
        for address, what in found.items():
            self.say(f"{address:<{wide}}  {what}")
        self.say(login.describe(data_dir))
        return {
            "addresses": found,
            "name": known.name if known else None,
            "password": known.password if known else None,
        }
