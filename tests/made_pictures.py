"""Made-up pictures in the formats in which data sets are published."""

import io
import pickle
import tarfile

import numpy as np


class Cifar:
    """A few made-up pictures and labels, and the files in which CIFAR-10 or CIFAR-100 would be published."""

    def __init__(self, name, random, count=40):
        self.name = name
        self.parts = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
        self.kinds = {"": 10}
        if name == "cifar100":
            self.parts, self.kinds = ("train", "test"), {"coarse_": 20, "fine_": 100}
            count *= 5
        self.images = {part: random.integers(0, 256, (count, 32, 32, 3), np.uint8) for part in self.parts}
        self.labels = {
            part: {kind: (np.arange(count) + i) % classes for kind, classes in self.kinds.items()}
            for i, part in enumerate(self.parts)
        }
        self.names = {kind: [f"{kind}{i}" for i in range(classes)] for kind, classes in self.kinds.items()}

    def _planes(self, part):
        return self.images[part].transpose(0, 3, 1, 2).reshape(len(self.images[part]), -1)

    def binary(self):
        """Returns the folder's name and the files of the binary form."""
        files = {}
        for part in self.parts:
            labels = [self.labels[part][kind][:, None].astype(np.uint8) for kind in self.kinds]
            files[f"{part}.bin"] = np.concatenate([*labels, self._planes(part)], axis=1).tobytes()
        for kind, names in self.names.items():
            file = f"{kind}label_names.txt" if kind else "batches.meta.txt"
            files[file] = ("\n".join(names) + "\n\n").encode()
        return "cifar-10-batches-bin" if self.name == "cifar10" else "cifar-100-binary", files

    def python(self):
        """Returns the folder's name and the files of the python form, in the protocol of the published ones."""
        files = {}
        for part in self.parts:
            labels = {f"{kind}labels".encode(): self.labels[part][kind].tolist() for kind in self.kinds}
            # Published with keys that are bytes in Python 3 and file names that nobody reads.
            found = {b"batch_label": b"made up", **labels, b"data": self._planes(part), b"filenames": [b"a.png"]}
            files[part] = pickle.dumps(found, protocol=2)
        meta = {(f"{kind}label_names").encode(): [n.encode() for n in names] for kind, names in self.names.items()}
        files["batches.meta" if self.name == "cifar10" else "meta"] = pickle.dumps(meta, protocol=2)
        return "cifar-10-batches-py" if self.name == "cifar10" else "cifar-100-python", files

    def write(self, form, place):
        """Writes the files of a form below a folder and returns where they lie."""
        folder, files = getattr(self, form)()
        (place / folder).mkdir(parents=True)
        for file, content in files.items():
            (place / folder / file).write_bytes(content)
        return place / folder

    def pack(self, form, place):
        """Writes the published archive of a form to a folder and returns its path."""
        folder, files = getattr(self, form)()
        place.mkdir(parents=True, exist_ok=True)
        end = "binary" if form == "binary" else "python"
        path = place / f"{'cifar-10' if self.name == 'cifar10' else 'cifar-100'}-{end}.tar.gz"
        write_tar(path, {f"{folder}/{file}": content for file, content in files.items()})
        return path


def write_tar(path, files, extra=()):
    """Writes a tar file of contents by name and of other members, packed if its name says so."""
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in extra:
            tar.addfile(member)
