"""Files of other programs as a spec: a RayCluster of KubeRay, a cluster of `ray up`, a task of SkyPilot (ADR 0930). Pure:
text in, texts out, and a sentence for everything in the file that is not in them."""
