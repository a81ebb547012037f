"""Engines on other machines: a front (`stt serve`) asks replicas of an engine, which Ray Serve places and keeps.

    wire.py         what travels: utterances as PCM16, only what the replica has not heard yet; pure
    load.py         how much of an engine is in use, and when a cluster is full; pure
    replica.py      an engine with the local scheduler and its keeper, behind calls; knows nothing of Ray
    recognizer.py   `ClusterRecognizer`: the front's `RecognitionService`, over `Replicas`
    routes.py       which of several engines a session gets
    metrics.py      what a front tells of the replicas
    spec.py         an engine that is to be deployed; pure
    fronts.py       fronts that are to run inside Ray, and their app; knows nothing of Ray
    link.py         a front's way to the cluster: a driver in another process, which may end; knows nothing of Ray
    ray_driver.py   that process
    ray_serve.py    engines on Ray; what begins with ray_ is imported only once a cluster is used
    ray_fronts.py   fronts inside Ray

Recognition is a pure function of its audio: a call that was lost is made again, and what replicas keep is a cache.
"""
