#!/bin/sh
# A QEMU that does not know what it is asked for.
echo no such machine >&2
exit 1
