"""Files that hold images which Sightline does not read, by their names and first bytes."""

from pathlib import Path

_REMEDY = "which Sightline does not read; read it in Python and give explain a tensor: torch.from_numpy(array)"
# Pictures that cameras and browsers write, which a person would convert.
_CONVERTED = "which is not read here; save it as PNG, TIFF or JPEG"
_BY_SUFFIX = {
    "DICOM": (".dcm", ".dicom", ".ima"),
    "NIfTI": (".nii", ".nii.gz"),
    "an array of NumPy": (".npy", ".npz"),
    "FITS": (".fits", ".fit", ".fts", ".fits.gz"),
    "HDF5": (".h5", ".hdf5", ".he5"),
    "NetCDF": (".nc",),
    "a file of MATLAB": (".mat",),
    "MetaImage": (".mha", ".mhd"),
    "NRRD": (".nrrd", ".nhdr"),
    "Analyze": (".img",),
    "MINC": (".mnc",),
    "a slide": (".svs", ".ndpi", ".mrxs", ".scn", ".vsi", ".czi", ".lif", ".nd2"),
    "OpenEXR": (".exr",),
}
_PICTURES = {
    "a picture of HEIF": (".heic", ".heif"),
    "a drawing, not a picture": (".svg",),
    "a raw photograph": (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),
    "a film": (".mp4", ".avi", ".mov", ".mkv", ".webm"),
}
_BY_START = (
    (0, b"\x93NUMPY", "an array of NumPy"), (0, b"PK\x03\x04", "an archive"), (128, b"DICM", "DICOM"),
    (344, b"n+1", "NIfTI"), (344, b"ni1", "NIfTI"), (0, b"SIMPLE  =", "FITS"), (0, b"\x89HDF", "HDF5"),
    (0, b"CDF", "NetCDF"), (0, b"NRRD", "NRRD"), (0, b"v/1\x01", "OpenEXR"),
)  # fmt: skip
_NAMES = {
    suffix: (what, remedy)
    for table, remedy in ((_BY_SUFFIX, _REMEDY), (_PICTURES, _CONVERTED))
    for what, own in table.items()
    for suffix in own
}


def holds_images(name: str) -> bool:
    """Whether a file's name says that it holds images, though of a kind that is not read."""
    return _suffix(name) is not None


def named_format(source: Path | bytes) -> str | None:
    """What a file is that is not read, and what to do; None where that is not known."""
    suffix = _suffix(source.name) if isinstance(source, Path) else None
    if suffix is None:
        if isinstance(source, Path):
            with source.open("rb") as stream:
                head = stream.read(400)
        else:
            head = source[:400]
        what = next((what for place, start, what in _BY_START if head[place:].startswith(start)), None)
        return None if what is None else f"it is {what}, {_REMEDY}"
    what, remedy = _NAMES[suffix]
    return f"it is {what}, {remedy}"


def _suffix(name: str) -> str | None:
    low = name.lower()
    return next((suffix for suffix in sorted(_NAMES, key=len, reverse=True) if low.endswith(suffix)), None)
