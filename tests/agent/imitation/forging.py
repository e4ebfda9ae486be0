"""Bundles with something changed in them and a manifest that agrees, for the tests of imitation."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile

import numpy as np


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def forged(path, json_changes=None, array_changes=None, drop=()):
    """Changes a bundle in place.

    Args:
        path: The bundle.
        json_changes: For names of JSON members, functions that change the data.
        array_changes: For names of npz members, functions that change the dict of arrays.
        drop: Names of members to leave out.
    """
    members = {name: content for name, content in members_of(path).items() if name not in drop}
    for name, change in (json_changes or {}).items():
        data = json.loads(members[name])
        change(data)
        members[name] = json.dumps(data).encode()
    for name, change in (array_changes or {}).items():
        with np.load(io.BytesIO(members[name])) as stored:
            arrays = dict(stored)
        change(arrays)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        members[name] = buffer.getvalue()
    manifest = json.loads(members.pop("manifest.json"))
    manifest["members"] = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)} for name, content in members.items()
    }
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        for name, content in members.items():
            archive.writestr(name, content)
    return path
