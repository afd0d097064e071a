"""Figures the papers print, to stand beside ours: theirs, on their data, never a threshold."""

from __future__ import annotations

from fexgan_lit.tables import TextTable

#: Li et al., Table 5, CK+: PSNR (dB), SSIM, FID.
LI_TABLE5 = {
    "GAFP-GAN": (20.123, 0.653, 73.65),
    "GC-GAN": (27.665, 0.769, 68.36),
    "CDAAE": (26.973, 0.765, 81.48),
    "Li et al.": (23.004, 0.775, 67.69),
}
#: Li et al., Table 6: Rank-1, TAR at FAR 1%, TAR at FAR 0.1%, in percent, by VGG-Face.
LI_TABLE6_VGG = {
    "untouched images": (100.0, 75.54, 48.30),
    "C-GAN": (71.33, 52.50, 19.97),
    "ExprGAN": (62.31, 44.69, 13.27),
    "Li et al.": (82.13, 58.45, 21.64),
}
#: The same by Light CNN.
LI_TABLE6_LIGHT = {
    "untouched images": (100.0, 79.86, 59.57),
    "C-GAN": (75.21, 48.45, 36.91),
    "ExprGAN": (67.49, 49.31, 26.40),
    "Li et al.": (84.62, 63.86, 44.17),
}
#: Li et al., Table 4, Oulu-CASIA: accuracy in percent by how many times the training set was enlarged.
LI_TABLE4 = {0: 67.3, 1: 68.6, 5: 71.4, 10: 76.2, 100: 76.2}
#: Li et al., Table 7: FID without the initialise networks, without label maps, and in full.
LI_TABLE7 = {"no initialise network": 76.85, "no label maps": 69.48, "full": 67.69}
#: Tulyakov et al., MoCoGAN, Table 1, MUG: ACD on features of OpenFace, of true clips and of clips out of noise.
MOCOGAN_ACD = {"true clips": 0.116, "VGAN": 0.322, "TGAN": 0.305, "MoCoGAN": 0.201}


def reference_table() -> TextTable:
    """Image quality and identity as Li et al. print them."""
    header = ("", "PSNR (dB)", "SSIM", "FID", "Rank-1", "TAR at FAR 1%", "TAR at FAR 0.1%")
    rows: list[tuple[str, ...]] = [
        (f"{name}, CK+", f"{p:.3f}", f"{s:.3f}", f"{f:.2f}", "-", "-", "-") for name, (p, s, f) in LI_TABLE5.items()
    ]
    for judge, table in (("VGG-Face", LI_TABLE6_VGG), ("Light CNN", LI_TABLE6_LIGHT)):
        for name, values in table.items():
            rows.append((f"{name}, by {judge}", "-", "-", "-", *(f"{value / 100:.4f}" for value in values)))
    note = "Printed by Li et al. (Tables 5 and 6) on their data and splits; not to be held against ours as equals."
    return TextTable("The papers' own figures", header, tuple(rows), len(rows), (note,))


def augmentation_reference() -> TextTable:
    """What generated frames were worth to Li et al."""
    row = ("Li et al., Oulu-CASIA", *(f"{value / 100:.3f}" for value in LI_TABLE4.values()))
    note = "Printed by Li et al. (Table 4); their classifier and its training are not stated."
    return TextTable("The paper's own figures", ("", *(f"×{times}" for times in LI_TABLE4)), (row,), 1, (note,))


def clips_reference() -> TextTable:
    """ACD as MoCoGAN prints it."""
    rows = tuple((f"{name}, MUG", f"{value:.3f}") for name, value in MOCOGAN_ACD.items())
    note = (
        "Printed by Tulyakov et al. (MoCoGAN, Table 1): clips made out of noise, by features of another recogniser "
        "(OpenFace); the scale is another one than ours."
    )
    return TextTable("The paper's own figures", ("", "ACD"), rows, len(rows), (note,))
