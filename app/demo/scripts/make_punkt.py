"""Make nltk_data/: the sentence splitters that whisperx.align asks NLTK for, without the internet.

whisperx loads tokenizers/punkt_tab/<language> and would otherwise download it. The splitters made here are real
Punkt models in NLTK's own file format, trained on the kit's sentences and told the common abbreviations; for
languages that the kit has no sentences of they know no abbreviations, which still splits at `. ` before a capital.
Point NLTK to the result with the environment variable NLTK_DATA or with nltk.data.path.

    python make_punkt.py                                # writes ../nltk_data/
"""

import argparse
import os
import random
from pathlib import Path

import grammar

HERE = Path(__file__).resolve().parent.parent  # the demo folder, which holds the models
ABBREVIATIONS = {
    "english": "dr mr mrs ms prof sr jr st vs etc e.g i.e a.m p.m u.s u.k inc ltd co no vol fig approx dept".split(),
    "spanish": "dr dra sr sra srta d dña ud uds vd etc p.ej ee.uu núm pág avda prof ing lic aprox tel".split(),
}
OTHERS = ("czech danish german greek estonian finnish french italian dutch norwegian polish portuguese slovene "
          "swedish turkish malayalam russian").split()  # the other languages that whisperx names a splitter for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=HERE / "nltk_data")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ["NLTK_DATA"] = str(options.out.resolve())  # before the import: NLTK writes only below its data path

    import nltk
    from nltk.tokenize.punkt import PunktParameters, PunktTokenizer, PunktTrainer, save_punkt_params

    for language in [*ABBREVIATIONS, *OTHERS]:
        parameters = PunktParameters()
        if language in ABBREVIATIONS:
            rng = random.Random(0)
            trainer = PunktTrainer()
            trainer.train(" ".join(grammar.sentence(rng)[language == "spanish"] for _ in range(3000)))
            parameters = trainer.get_params()
            # with so few words Punkt takes words at sentence ends for abbreviations: only the list counts
            parameters.abbrev_types = set(ABBREVIATIONS[language])
            parameters.collocations = set()
        folder = options.out.resolve() / "tokenizers" / "punkt_tab" / language
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)  # NLTK insists while it writes
        save_punkt_params(parameters, dir=str(folder))
        folder.chmod(0o755)
        for file in folder.iterdir():
            file.chmod(0o644)

    splitter = nltk.data.load("tokenizers/punkt_tab/english.pickle")
    assert isinstance(splitter, PunktTokenizer)
    print(splitter.tokenize("Good morning, Dr. Smith. The report is late! Is it ready? Let's get started."))
    print(nltk.data.load("tokenizers/punkt_tab/spanish.pickle").tokenize(
        "Buenos días, Sra. López. ¿Puedes enviar el informe? Vamos a empezar. El plan no está listo."))
    print(nltk.data.load("tokenizers/punkt_tab/german.pickle").tokenize("Guten Morgen. Wie geht es Ihnen?"))


if __name__ == "__main__":
    main()
