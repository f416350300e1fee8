/*
 * admission.h - may this container come here? Every reason why not, at once
 *
 * Codes, for machines:
 *   config-invalid     the offer's configuration can't be used
 *   arch-differs       another processor architecture
 *   cpu-features       the processor here lacks features that the source has
 *   criu-missing       no CRIU that works, or an older one than the source's
 *   name-taken         a container of that name is here
 *   address-taken      a container or an interface here has its address
 *   image-differs      an image of that name but other content is here
 *   memory-short       not enough free memory
 *   disk-short         not enough free space in the state directory
 *   volume-missing     the host path of a volume is not here
 *   token-used         this migration was decided before
 *
 * A limit whose controller is not here fails later, when the target prepares,
 * and still before anything is frozen.
 */
#pragma once

#include "engine/node.h"
#include "engine/spec.h"
#include "proto/message.h"

struct admission {
	struct message_reason reasons[WIRE_REASONS_MAX];	/* strings are owned */
	size_t n;
	struct spec *spec;		/* of the offer; NULL when it is invalid */
	bool image_wanted;
};

/* Fills ret; a negative return only when the questions could not be asked. */
int admission_check(const struct node *node, const struct message_offer *offer,
		    struct admission *ret, struct error *err);
void admission_free(struct admission *a);

/* One more reason, e.g. found while making the container's folder. */
void admission_refuse(struct admission *a, const char *code, const char *remedy,
		      const char *fmt, ...) __attribute__((format(printf, 4, 5)));
