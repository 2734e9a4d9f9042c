"""Media in tar files of some hundred MB, each read at its place, for disks that are slow with many small files.

Tar files are the format of webdataset, whose tools read these. Samplers that balance batches over identities need
any file at any time, and webdataset 1 only streams; litdata reads single items 50 times more slowly than a tar file is
read at a known place, and needs clients of cloud stores. So ``tarfile`` and an index are all there is.
"""

from datamodules.io.shards.making import refuse_stale, write_shards
from datamodules.io.shards.reading import INDEX, ends_of, opened, shard_paths, shards_of

__all__ = ["INDEX", "ends_of", "opened", "refuse_stale", "shard_paths", "shards_of", "write_shards"]
