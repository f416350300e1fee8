/*
 * tree_ids.h - whose files those of a tree are, as ids inside the container
 *
 * What lies in the container's layer has ids inside on disk. Files of its tmpfs mounts have
 * those of this machine, where a container with ids of its own has others on each node; in
 * a stream and in a checkpoint they are ids inside: owners, ACLs and the root of file
 * capabilities. acl(5), capabilities(7).
 */
#pragma once

#include "engine/image/tree_entry.h"
#include "engine/userns.h"

/* Both are the translate of struct tree_contents; ids is a const struct userns, and may be the
 * host's, which changes nothing. -EPROTO: an id that the maps don't have, or a damaged attribute. */
int tree_ids_to_inside(const void *ids, struct tree_entry *e, struct error *err);
int tree_ids_to_host(const void *ids, struct tree_entry *e, struct error *err);
