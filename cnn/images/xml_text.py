"""The door for XML out of files: without document types, by which few bytes mean gigabytes or name other files."""

import re
from xml.etree import ElementTree  # nosec B405 # `parse` refuses what ElementTree must not be given

Element = ElementTree.Element
_DECLARED = re.compile(r"<!\s*(DOCTYPE|ENTITY|ATTLIST|ELEMENT|NOTATION)", re.IGNORECASE)


def parse(text: str) -> ElementTree.Element | None:
    """The root of an XML text.

    Args:
      text: the text; metadata of images have no document type.

    Returns:
      The root element; None if the text is not well-formed, or declares entities.
    """
    if _DECLARED.search(text):
        return None
    try:
        return ElementTree.fromstring(text)  # nosec B314 # no declarations, so that nothing can expand
    except (ElementTree.ParseError, ValueError, RecursionError):
        return None
