"""Real `leyden` processes for the parts of others, as for what goes wrong."""

from ..reliability.conftest import leyden as leyden
from ..reliability.conftest import server as server
