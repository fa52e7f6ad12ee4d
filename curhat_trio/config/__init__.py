"""The server's settings, and the sources they are read from.

A setting takes its value from the first of these that has one:

1. a command-line flag, such as `--max-connections 500`;
2. a variable named after it, such as `CURHAT_MAX_CONNECTIONS`;
3. for host and port only, the plain `HOST` and `PORT` that the Go server and most hosting platforms use;
4. the table `[curhat_trio]` of the TOML file that `--config` or `CURHAT_CONFIG` names;
5. its default.

`settings` is the table of all settings, `kinds` defines the valid values, `command_line` the flags and `--help`,
and `loading` reads the sources. Nothing here reads `os.environ` or `sys.argv`: both arrive as arguments.
"""

from curhat_trio.config.loading import SettingsError, load_settings
from curhat_trio.config.settings import Settings

__all__ = ["Settings", "SettingsError", "load_settings"]
