from .guarantee import PrecisionGuarantee as PrecisionGuarantee
