"""Where runs lie: folders on disks and in object stores, and locks on them."""
