"""What clients of a server without TLS verify by: nothing. To read the certificates of all the
world's authorities would cost each of them 30 ms."""

import ssl
from typing import Final

PLAIN: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
