"""One task on one GPU. Run it with `clusterctl submit job.py`: the cluster buys the node while the task waits."""

import subprocess

import ray


@ray.remote(num_gpus=1)
def describe_gpu():
    """What the driver says about the GPU that this task was given."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    gpu = ray.get_gpu_ids()[0]
    return subprocess.run([*query, f"--id={gpu}"], capture_output=True, text=True, check=True).stdout.strip()


def main():
    ray.init()  # `clusterctl submit` has set the address
    print(ray.get(describe_gpu.remote()))


if __name__ == "__main__":
    main()
