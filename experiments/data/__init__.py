"""Real data sets as NumPy arrays, checked as a whole before any training, and batches of them.

Images: ``images`` loads by a name of the table in ``image_sets``, whose files ``mnist``, ``cifar``, ``svhn`` and
``tfds`` read; ``batches`` says which are in a batch. Of sets larger than memory ``records`` reads the images of
each batch, and ``streamed`` looks at all of them once, for their ``summary``. Texts: ``text`` holds the table of
corpora and loads them to the ``corpus``, ``vocabulary`` numbers their words, ``streams`` cuts them into windows.
``source_files`` finds and reads the files of both.
"""
