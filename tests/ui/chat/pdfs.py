"""PDFs made by hand, whole and hostile ones, for the tests of what is read of them."""

import io
import zlib

from pypdf import PdfReader, PdfWriter


def pdf(*pages: str) -> bytes:
    """A PDF with a line of Latin text on each page; "" leaves a page without text."""
    contents = [f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode("latin-1") if text else b"" for text in pages]
    return of_contents([(content, b"") for content in contents])


def of_contents(contents: list[tuple[bytes, bytes]]) -> bytes:
    """A PDF with these content streams, each with what its dictionary says beside the length."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"", b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    kids = []
    for content, about in contents:
        kids.append(f"{len(objects) + 2} 0 R")
        objects.append(b"<<" + about + b"/Length %d>>stream\n" % len(content) + content + b"\nendstream")
        at = len(objects)
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents %d 0 R/Resources<</Font<</F1 3 0 R>>>>>>" % at
        )
    objects[1] = f"<</Type/Pages/Count {len(kids)}/Kids[{' '.join(kids)}]>>".encode()
    return of_objects(objects)


def of_objects(objects: list[bytes]) -> bytes:
    """A PDF of these objects, numbered from 1; the first one is the catalogue."""
    made, places = bytearray(b"%PDF-1.7\n"), []
    for number, body in enumerate(objects, start=1):
        places.append(len(made))
        made += b"%d 0 obj" % number + body + b"endobj\n"
    table = len(made)
    made += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    made += b"".join(b"%010d 00000 n \n" % place for place in places)
    made += b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, table)
    return bytes(made)


def locked(data: bytes, user: str, owner: str = "owner") -> bytes:
    """The same PDF with passwords, in the old cipher that needs no other library."""
    writer, packed = PdfWriter(PdfReader(io.BytesIO(data))), io.BytesIO()
    writer.encrypt(user, owner, algorithm="RC4-128")
    writer.write(packed)
    return packed.getvalue()


def bomb(num_bytes: int) -> bytes:
    """A small PDF whose only page unpacks to so many bytes."""
    packed = zlib.compress(b"BT (a) Tj ET " * (num_bytes // 13), 9)
    return of_contents([(packed, b"/Filter/FlateDecode")])


def nested_bomb() -> bytes:
    """A page packed three times over, which unpacks to a terabyte."""
    packed = zlib.compress(b"\0" * 60_000_000, 9)
    for _ in range(2):
        packed = zlib.compress(packed * 800, 9)
    return of_contents([(packed, b"/Filter[/FlateDecode/FlateDecode/FlateDecode]")])


def cyclic_pages() -> bytes:
    """A page tree that contains itself."""
    return of_objects(
        [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Count 9/Kids[2 0 R 3 0 R]/Parent 3 0 R>>",
         b"<</Type/Pages/Count 9/Kids[2 0 R 3 0 R]/Parent 2 0 R>>"]
    )  # fmt: skip


def wide_pages(depth: int, width: int) -> bytes:
    """A page tree of few objects and width ** depth pages."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>"]
    for level in range(depth):
        kids = b" ".join([b"%d 0 R" % (level + 3)] * width)
        objects.append(b"<</Type/Pages/Count 1/Kids[" + kids + b"]>>")
    objects.append(b"<</Type/Page/MediaBox[0 0 9 9]>>")
    return of_objects(objects)


def cyclic_content() -> bytes:
    """A form that draws itself."""
    form = (
        b"<</Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X 4 0 R>>>>/Length 11>>"
        b"stream\n/X Do /X Do\nendstream"
    )
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 5 0 R/Resources<</XObject<</X 4 0 R>>>>>>"
    content = b"<</Length 11>>stream\n/X Do /X Do\nendstream"
    tree = b"<</Type/Pages/Count 1/Kids[3 0 R]>>"
    return of_objects([b"<</Type/Catalog/Pages 2 0 R>>", tree, page, form, content])
