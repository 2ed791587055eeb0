"""The XMP packet of a WebP or PNG: the standard mark for AI-generated media, a description, and our
record.

It is written as XML because other programs expect that, and read back without an XML parser, so that nothing
in a foreign packet is ever expanded.
"""

from __future__ import annotations

import html
import re
from xml.sax.saxutils import escape

from homereel.media.limits import MAX_RECORD_BYTES
from homereel.media.record_text import Tags

# IPTC's term for media made by a trained model; sites look for it to label a picture.
_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_NAMESPACES = (
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'xmlns:homereel="urn:homereel:record:1"'
)
_RECORD = re.compile(r"<homereel:record>([^<]*)</homereel:record>")


def make_xmp(tags: Tags) -> str:
    """The packet for these tags."""
    mark = f"<Iptc4xmpExt:DigitalSourceType>{_SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>" if tags.ai_generated else ""
    description = f'<rdf:Alt><rdf:li xml:lang="x-default">{escape(tags.comment)}</rdf:li></rdf:Alt>'
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {_NAMESPACES}><rdf:Description rdf:about="">'
        f"{mark}<dc:description>{description}</dc:description>"
        f"<homereel:record>{escape(tags.record)}</homereel:record>"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    )


def record_in_xmp(packet: bytes | str | None) -> str | None:
    """The record's JSON text inside a packet, unchecked; None if there is none or the packet is over the
    limit.
    """
    if not packet or len(packet) > 2 * MAX_RECORD_BYTES:
        return None
    text = packet.decode("utf-8", "replace") if isinstance(packet, bytes) else packet
    found = _RECORD.search(text)
    return html.unescape(found[1]) if found else None
