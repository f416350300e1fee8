/*
 * doctor.h - what of this machine works for godwit, what does not, and what to do
 *
 * Each look tries the thing itself (a mount, a control group, a bridge in a network
 * namespace of its own) rather than the version of something, and leaves nothing behind.
 * What is tried happens in a process of its own, so that it can't harm this one.
 */
#pragma once

#include "engine/node.h"

enum finding_grade {
	FINDING_GOOD,
	FINDING_LIMITED,	/* containers run; something is missing or slower */
	FINDING_BAD,		/* containers can't run, or not move: the text says which */
};

#define FINDING_TEXT_MAX 512

struct finding {
	enum finding_grade grade;
	char found[FINDING_TEXT_MAX];
	char remedy[FINDING_TEXT_MAX];	/* empty when there is nothing to do */
};

struct doctor_look {
	const char *area, *name;
	void (*look)(const struct node *node, struct finding *ret);
};

extern const struct doctor_look doctor_looks[];	/* ends with a NULL name */
