from fgvr.recogniser import Candidate as Candidate
from fgvr.recogniser import Recogniser as Recogniser
from fgvr.recogniser import Recognition as Recognition
from fgvr.recogniser import load as load

__version__: str
