/*
 * admission.h - may this container come here? Every reason why not, at once
 *
 * What others on their way here will still take (reservation.h) counts as
 * taken. The caller holds node_lock from the check until it has reserved.
 */
#pragma once

#include "engine/node.h"
#include "engine/spec.h"
#include "migrate/admission/reasons.h"
#include "migrate/admission/reservation.h"

/* So many may be on their way at once. */
#define ADMISSION_AT_ONCE_MAX 32

struct admission {
	struct reasons reasons;
	struct spec *spec;		/* of the offer; NULL when it is invalid */
	bool image_wanted;
	struct reservation needed;	/* to be reserved for it */
};

/* Fills ret; a negative return only when the questions could not be asked. */
int admission_check(const struct node *node, const struct message_offer *offer,
		    struct admission *ret, struct error *err);
void admission_free(struct admission *a);
