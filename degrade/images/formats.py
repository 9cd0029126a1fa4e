"""Name the format of a file by its first bytes, so that what is not read can be refused by its name."""

READ_FORMATS = "JPEG, PNG, WebP, TIFF or BMP"

_BEGINNINGS = (  # of files that are not read: first bytes, name
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\xd8\xff\xf7", "JPEG-LS"),
    (b"8BPS", "Photoshop (PSD)"),
    (b"gimp xcf", "GIMP (XCF)"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"qoif", "QOI"),
    (b"DDS ", "DDS"),
    (b"\0\0\1\0", "Windows icon (ICO)"),
    (b"icns", "Apple icon (ICNS)"),
    (b"\x8aMNG\r\n\x1a\n", "MNG"),
    (b"AT&TFORM", "DjVu"),
    (b"SIMPLE  =", "FITS"),
    (b"IIRO", "raw camera (Olympus ORF)"),
    (b"IIRS", "raw camera (Olympus ORF)"),
    (b"IIU\0", "raw camera (Panasonic RW2)"),
    (b"II\xbc", "JPEG XR"),
    (b"FUJIFILM", "raw camera (Fujifilm RAF)"),
    (b"FOVb", "raw camera (Sigma X3F)"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"\x1aE\xdf\xa3", "Matroska or WebM video"),
    (b"PK\x03\x04", "zip archive"),
    (b"\x1f\x8b", "gzip archive"),
)
_BRANDS = (  # of ISO media files, after "ftyp" at byte 4
    ((b"avif", b"avis"), "AVIF"),
    ((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIC"),
    ((b"crx ",), "raw camera (Canon CR3)"),
    ((b"mif1", b"msf1", b"miaf"), "HEIF"),
    ((b"jxl ",), "JPEG XL"),
    ((b"jp2 ", b"jpx "), "JPEG 2000"),
)
_TEXTS = ((b"<svg", "SVG"), (b"<!doctype html", "HTML page"), (b"<html", "HTML page"), (b"<?xml", "XML or SVG"))


def unread_format(head: bytes) -> str | None:
    """Name the format of a file that is not read; None for the formats that are read, and for unknown ones.

    Args:
        head: the first 64 bytes of the file, or more.
    """
    for beginning, name in _BEGINNINGS:
        if head.startswith(beginning):
            return name
    if head[4:8] == b"ftyp":
        size = max(16, min(int.from_bytes(head[:4], "big"), len(head)))
        # the first brand decides; HEIF and AVIF files may have a general one there, and their own among the others
        brands = [head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))]
        named = [name for brand in brands for known, name in _BRANDS if brand in known]
        return next((name for name in named if name != "HEIF"), named[0] if named else "MP4 or QuickTime video")
    if head.startswith(b"RIFF") and head[8:12] != b"WEBP":
        return {b"AVI ": "AVI video", b"WAVE": "WAV sound"}.get(head[8:12])
    if head[8:10] == b"CR" and head[:4] in (b"II*\0", b"MM\0*"):
        return "raw camera (Canon CR2)"
    if head[:1] == b"P" and head[1:2] in b"1234567fF" and head[2:3].isspace():
        return "PNM (PBM, PGM, PPM, PFM)"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((name for beginning, name in _TEXTS if start.startswith(beginning)), None)
