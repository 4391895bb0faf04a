"""The shield: a calibrated score as a file to deploy. No Ray, SQL or LangChain; torch and safetensors.

`head` is the score as one torch module, `thresholds` how known images set what is accepted, `verdicts` what is said of
an image, `artefact` the folder, `growth` how a class is added, `drift` whether the images are still what they were.
"""
