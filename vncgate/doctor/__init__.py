"""Is everything ready for the class? The whole chain, looked at and never touched; each finding says what to do.

base         what checks are given and what they find; how other programs are asked
start        settings, token file, gate: what all else is compared with
files ports places desktops apache httpd public unit limits
             the checks: each gathers its facts first, and judges them in pure functions
examination  the registry, and the run through it
"""
