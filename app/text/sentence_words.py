"""Word lists of the sentence splitter: abbreviations by language, and a few English and German
words.

The full stop of an abbreviation does not end a sentence. The lists need only abbreviations that
come before a capital letter or a number: Unicode's rules never end a sentence before a small
letter. Words that can also end a sentence are left out ("im", "ok", "no", "dir"). An entry in small
letters matches in any case, one with a capital only as written. An entry that begins with a hyphen
matches the end of a longer word.
"""

from __future__ import annotations

EVERYWHERE = "dr prof mr mrs ms"

BEFORE_ANYTHING = {
    "en": (
        "Messrs Mx Rev Hon St Mt Ft Capt Cmdr Lt Col Maj Gen Sgt Cpl Adm Gov Sen Rep Pres "
        "vs e.g i.e cf viz"
    ),
    "de": (
        "Hr Hrn Fr Frl Fam St Dipl Ing Mag hl bzw ca sog evtl ggf inkl exkl vgl insb bspw "
        "z.b d.h u.a h.c u Mio Mrd Tsd"
    ),
    "fr": "M MM Mme Mmes Mlle Mlles Me Mgr Pr prof St Ste av bd cf c.-à-d p.ex",
    "es": (
        "Sr Sra Sres Sras Srta Dra Dres D Dña Ud Uds Vd Vds Profa Lic Ing Arq Gral Cnel Sto Sta "
        "Av Avda EE FF CC ej p.ej"
    ),
    "it": (
        "sig sigg sig.ra sig.na dott dott.ssa prof prof.ssa ing avv arch geom rag mons Gen Col S SS"
    ),
    "pt": "Sr Sra Srs Sras Srta Dra Profa prof Eng Exmo Exma Av D Sto Sta Gen Cel",
    "nl": "dhr mevr mej mw drs dr prof ir ing mr St bijv d.w.z o.a m.n t.a.v ca vgl",
    "pl": (
        "dr prof mgr inż ks św ul al pl os gen płk mjr kpt red np tj tzn tzw ur zm m.in hab lek"
    ),
    "cs": (
        "dr prof ing mgr Bc doc mudr judr rndr phdr sv ul nám tř gen plk mjr kpt např tzv tj resp "
        "cca"
    ),
    "sk": (
        "dr prof ing mgr Bc doc mudr judr rndr phdr sv ul nám gen plk mjr kpt napr tzv t.j resp"
    ),
    "ru": (
        "проф акад доц канд ген полк лейт ул просп пл пер бул наб св тов гр г-н г-жа т.е т.к напр"
    ),
    "uk": "проф акад доц ген полк вул просп пл пров бул св ім тов гр напр т.зв",
    "be": "праф акад дац ген вул пр пл св тав напр",
    "bg": "проф акад доц ген полк д-р инж ул бул пл св напр т.нар",
    "mk": "проф д-р инж ул бул св нпр",
    "sr": "др проф инж мр ул бул св нпр тј dr prof ing mr ul bul sv npr tj",
    "hr": "dr prof ing mr mag ul sv npr tj gđa gđica",
    "sl": "dr prof mag ing inž Ga gdč ul sv npr tj t.i oz dipl",
    "hu": "dr ifj id özv prof pl kb ún vö",
    "fi": "esim prof toht maist mm ns vrt",
    "no": "dr prof hr ca f.eks bl.a dvs St kapt",
    "da": "dr prof hr fr frk ca f.eks bl.a dvs St kapt",
    "sv": "dr prof hr fr frk ca t.ex bl.a dvs d.v.s s.k S:t St kapt",
    "is": "dr prof hr t.d m.a þ.e u.þ.b",
    "et": "dr prof hr näit lp",
    "lv": "dr prof inž piem t.i t.s sv",
    "lt": "dr prof doc inž pvz t.y kun šv",
    "ro": "dl dna d-l d-na d-ra dr prof ing acad gen sf str bd",
    "ca": "Sr Sra Srs Sres Dra Av Avda St Sta Mn p.ex",
    "gl": "Sr Sra Dra D Dna Av Sto Sta",
    "tr": "Doç Yrd Av Sn Uzm Op Müh Alb Gen Hz örn bkz",
    "el": "κα κος κ.κ δρ καθ αγ οδ λεωφ π.χ δηλ βλ",
    "hi": "डॉ डा प्रो पं कु",
    "mr": "डॉ डा प्रा सौ कु",
    "ne": "डा डॉ प्रा",
    "bn": "ড ডা মো মোঃ",
    "as": "ড ডা",
    "pa": "ਡਾ ਪ੍ਰੋ ਸ",
    "gu": "ડૉ ડો ડા પ્રો",
    "ta": "திரு திருமதி பேரா டாக்",
    "te": "డా ప్రొ",
    "kn": "ಡಾ ಪ್ರೊ",
    "ml": "ഡോ പ്രൊഫ",
    "th": "ดร นพ พญ ผศ รศ",
    "vi": "TS ThS GS PGS BS KS TP Tp",
    "id": "dr Drs Bpk Sdr Sdri Ir Hj Jl Jln Jend Kol",
    "tl": "Gng Bb Sr Sra",
    "sw": "Dk Bw Bi",
    "af": "mnr mev mej dr prof ds d.w.s",
    "sq": "Znj",
    "cy": "Parch",
}

BEFORE_NUMBERS = {
    "en": "No Nos Jan Feb Mar Apr Aug Sep Sept Oct Nov Dec p pp vol Fig ch Art approx ca c",
    "de": "-str Nr Nrn S Abs Abb Bd Kap Art Jan Feb Apr Aug Sept Okt Nov Dez Tel max",
    "fr": "p pp n° no art vol fig env janv févr juil sept oct nov déc tél",
    "es": "núm nº n.º pág págs p art vol fig cap tel",
    "it": "n nr num pag pagg p art vol fig cap tel",
    "pt": "n nº n.º núm pág págs p art vol fig cap tel",
    "nl": "nr nrs blz p art",
    "pl": "nr ok str art poz pkt tel ust",
    "cs": "č čís str odst tel",
    "sk": "č čís str ods tel",
    "ru": "ст стр рис гл п табл тел янв фев апр авг сент окт нояб дек",
    "uk": ("ст стор рис гл табл тел січ лют берез квіт трав черв лип серп верес жовт листоп груд"),
    "be": "арт стар тэл",
    "bg": "стр чл ал",
    "sr": "бр стр чл br str čl",
    "hr": "br str čl",
    "sl": "št str čl",
    "hu": "sz tel",
    "fi": "nro puh klo",
    "no": "kl nr tlf",
    "da": "kl nr tlf stk",
    "sv": "kl nr tel",
    "is": "kl nr bls",
    "et": "nr lk kl",
    "lv": "nr lpp",
    "lt": "nr psl",
    "ro": "nr pag art",
    "ca": "núm pàg p art",
    "tr": "No s sf",
    "el": "αρ σελ τηλ",
    "id": "no hlm Rp",
    "af": "nr bl",
}

KIN = {"nn": "no", "bs": "hr", "ms": "id", "lb": "de", "yue": "zh"}


def abbreviations(table: dict[str, str], language: str) -> frozenset[str]:
    """The entries of a language, or of a related one with the same abbreviations."""
    return frozenset(table.get(KIN.get(language, language), "").split())


# words that start a sentence after an acronym: "in the U.S. It was", not "U.S. Army"
ENGLISH_STARTERS = (
    "I It He She We You They The This That These Those There Then But And So If When What Who "
    "Where Why How My Our Your His Her Their Is Are Was Were Do Did Does Not No Yes In On At"
)
# words before an ordinal ("im 3. Stock"), and words that start a sentence after a number
GERMAN_DETERMINERS = (
    "der die das den dem des ein eine einen einem einer eines mein meine meinem meiner dein deine "
    "sein seine seinem seiner ihr ihre unser unsere jeder jede jedes dieser diese dieses am im vom "
    "zum zur beim ab bis seit als in"
)
GERMAN_STARTERS = (
    "Ich Du Er Sie Es Wir Ihr Man Das Dann Danach Da Dort Hier Heute Jetzt Aber Und Also Was Wer "
    "Wie Wo Warum Wann Ja Nein Bitte"
)
GERMAN_MONTHS = (
    "Januar Jänner Februar März April Mai Juni Juli August September Oktober November Dezember"
)
