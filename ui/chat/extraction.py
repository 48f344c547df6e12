"""The text of a file that a user attaches, or why it has none that a model could read.

What comes in are a name and bytes from anywhere; what goes out is an `Attachment`, or a `FileRefused` that names the
file, what was found in it and what is allowed. The bytes decide what a file is, never its name. PDFs are read by a
process of their own (`pdf_text`); everything here takes time in proportion to the length. Nothing is written anywhere.
"""

import codecs
import re

from ui.chat.attachment import MAX_CHARS, MAX_FILE_BYTES, Attachment, clean_name
from ui.chat.pdf_text import pdf_text
from ui.chat.refusal import FileReason, FileRefused

_PDF = b"%PDF-"
_PDF_BEGINS_WITHIN = 1024
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_KINDS = (
    (b"\x89PNG", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"RIFF", "WebP / WAV / AVI"),
    (b"PK\x03\x04", "ZIP / Office"),
    (b"PK\x05\x06", "ZIP"),
    (b"\xd0\xcf\x11\xe0", "Office 97–2003"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"7z\xbc\xaf", "7z"),
    (b"Rar!", "RAR"),
    (b"\x7fELF", "ELF"),
    (b"MZ", "EXE"),
    (b"SQLite format 3", "SQLite"),
    (b"OggS", "Ogg"),
    (b"fLaC", "FLAC"),
    (b"ID3", "MP3"),
    (b"PAR1", "Parquet"),
)
"""How files begin that people attach by mistake; looked at only where bytes are no text, so a text may begin so."""
_RICH_TEXT = "{\\rtf"
_CONTROL = re.compile("[\x01-\x07\x0b\x0e-\x1a\x1c-\x1f\x7f]")
_CONTROL_BYTES = re.compile(b"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_REMOVED = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\ufeff]")
_LOOKED_AT = 65_536
_CONTROL_SHARE = 0.005
"""Of the characters; a stray one is in many texts, in a program's bytes they are everywhere."""


def read_attachment(name: str, data: bytes) -> Attachment:
    """What a model can read of a file. May take seconds for a PDF.

    Raises:
        FileRefused: with the rule that was broken.
    """
    name = clean_name(name)
    if not data:
        raise FileRefused("empty", name)
    if len(data) > MAX_FILE_BYTES:
        raise FileRefused("too_large", name, size=f"{len(data):,}", limit=f"{MAX_FILE_BYTES:,}")
    text = None if data.lstrip()[: len(_PDF)] == _PDF else _decoded(name, data)
    if text is None:
        return Attachment(name, "pdf", _checked(name, pdf_text(name, data), "no_text"), len(data))
    if text.startswith(_RICH_TEXT):
        raise FileRefused("other_kind", name, found="RTF")
    return Attachment(name, "text", _checked(name, text, "empty"), len(data))


def _checked(name: str, text: str, reason_for_nothing: FileReason) -> str:
    """The text with plain line ends and no control characters, if it says something and is not too long."""
    if len(text) > MAX_CHARS:
        raise FileRefused("too_long", name, found=f"{len(text):,}", limit=f"{MAX_CHARS:,}")
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")
    text = _REMOVED.sub("", text).encode("utf-8", "replace").decode()
    if not text.strip():
        raise FileRefused(reason_for_nothing, name)
    return text


def _decoded(name: str, data: bytes) -> str | None:
    """The characters of a text; None of a PDF that begins a little late."""
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), None) or _wide(data) or "utf-8"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if _PDF in data[:_PDF_BEGINS_WITHIN]:
            return None
        raise _no_text(name, data, error) from None
    controls = len(_CONTROL.findall(text, 0, _LOOKED_AT))
    if "\0" in text or controls > max(4, _CONTROL_SHARE * min(len(text), _LOOKED_AT)):
        raise _binary(name, data)
    return text


def _wide(data: bytes) -> str | None:
    """The encoding of UTF-16 without a mark, told by the empty halves of its ASCII characters."""
    start = data[:_LOOKED_AT]
    half = len(start) // 2
    if half < 2 or len(data) % 2 or b"\0" not in start:
        return None
    even, odd = start[::2].count(0), start[1::2].count(0)
    if odd >= 0.4 * half and even <= 0.02 * half:
        return "utf-16-le"
    return "utf-16-be" if even >= 0.4 * half and odd <= 0.02 * half else None


def _no_text(name: str, data: bytes, error: UnicodeDecodeError) -> FileRefused:
    """Why bytes that no encoding of ours reads are refused: they are no text, or a text in another one."""
    start = data[:_LOOKED_AT]
    is_marked = any(data.startswith(mark) for mark, _encoding in _MARKS)
    if not is_marked and (_kind_of(data) or len(_CONTROL_BYTES.findall(start)) > _CONTROL_SHARE * len(start)):
        return _binary(name, data)
    line = data.count(b"\n", 0, error.start) + 1
    return FileRefused("encoding", name, byte=f"0x{data[error.start]:02X}", line=f"{line:,}")


def _binary(name: str, data: bytes) -> FileRefused:
    kind = _kind_of(data)
    return FileRefused("other_kind", name, found=kind) if kind else FileRefused("binary", name)


def _kind_of(data: bytes) -> str | None:
    if data[4:8] == b"ftyp":
        return "MP4 / HEIC"
    return next((kind for beginning, kind in _KINDS if data.startswith(beginning)), None)
