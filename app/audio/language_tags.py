"""Maps the language tags of media containers to one code for each language.

Matroska and MP4 use ISO 639-2, which has two forms for some languages; newer files use BCP 47.
Source: https://www.loc.gov/standards/iso639-2/php/code_list.php
"""

from __future__ import annotations

from app.domain.errors import UnsupportedOption
from app.domain.languages import parse_language

_PAIRS = """
afr af alb sq sqi sq amh am ara ar arm hy hye hy asm as aze az bak ba baq eu eus eu bel be ben bn
bod bo tib bo bos bs bre br bul bg bur my mya my cat ca ces cs cze cs chi zh zho zh cmn zh cym cy
wel cy dan da deu de ger de dut nl nld nl ell el gre el eng en est et fao fo fas fa per fa fin fi
fra fr fre fr geo ka kat ka glg gl guj gu hat ht hau ha heb he hin hi hrv hr hun hu ice is isl is
ind id ita it jav jw jpn ja kan kn kaz kk khm km kor ko lao lo lat la lav lv lin ln lit lt ltz lb
mac mk mkd mk mal ml mao mi mri mi mar mr may ms msa ms mlg mg mlt mt mon mn nep ne nno nn nob no
nor no oci oc pan pa pol pl por pt pus ps ron ro rum ro rus ru san sa sin si slk sk slo sk slv sl
sna sn snd sd som so spa es srp sr sun su swa sw swe sv tam ta tat tt tel te tgk tg tgl tl fil tl
tha th tuk tk tur tr ukr uk urd ur uzb uz vie vi yid yi yor yo nb no jv jw iw he in id ji yi
"""
_TAGS = iter(_PAIRS.split())
_CODES = dict(zip(_TAGS, _TAGS, strict=True))


def same_language(tag: str) -> str:
    """One code for `fr`, `fre`, `fra`, `fr-CA` and `French`; an unknown tag in lower case."""
    tag = tag.strip().lower()
    primary = tag.replace("_", "-").split("-")[0]
    for form in (tag, primary):
        try:
            return _CODES.get(form) or parse_language(form) or form
        except UnsupportedOption:
            continue
    return tag
