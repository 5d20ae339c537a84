"""A spec as objects of KubeRay, for clusters of Kubernetes that its operator runs. Pure: a spec in, documents out (ADR 0910)."""
