/*
 * certificate.h - what a node's certificate says, and what is wrong with it
 *
 * The name of a certificate is its CN, which is the node's name; its SANs are the hosts by
 * which the node may be called, the name among them. Nodes are members of a cluster when
 * the cluster's CA has signed their certificates: X.509, RFC 5280.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "engine/base/error.h"

#define CERTIFICATE_NAME_MAX 64		/* ub-common-name, RFC 5280 */
#define CERTIFICATE_DATE_SIZE 24

struct x509_st;

struct certificate_facts {
	char name[CERTIFICATE_NAME_MAX + 1];	/* empty: it has none that is a node's */
	char issuer[CERTIFICATE_NAME_MAX + 1];
	uint64_t serial;			/* 0: longer than that */
	time_t not_before, not_after;
	char fingerprint[65];			/* SHA-256 of all of it, hex */
};

struct certificate_facts certificate_facts(const struct x509_st *x);

/* "2026-11-22 07:30 UTC" */
void certificate_date(time_t when, char ret[CERTIFICATE_DATE_SIZE]);

/* -EKEYEXPIRED when it is too early or too late for it; whose: "the certificate of node 'a'". */
int certificate_check_dates(const struct certificate_facts *f, const char *whose, struct error *err);

/* Says why OpenSSL (X509_V_ERR_...) has refused the peer's certificate, or at a depth above 0 the CA's. */
int certificate_refused(const struct x509_st *x, int depth, int why, struct error *err);

/* Whether that is a name of a node: [a-zA-Z0-9][a-zA-Z0-9_.-]*, at most CERTIFICATE_NAME_MAX long. */
int certificate_check_name(const char *name, struct error *err);
