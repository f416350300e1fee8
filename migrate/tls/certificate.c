#include <stdio.h>
#include <string.h>

#include "migrate/tls/certificate.h"
#include "migrate/tls/openssl.h"

#define ALNUM "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
#define RENEW "'godwit tls issue %s' on the node that has the CA makes a new one, 'godwit tls install' puts it in place"

int certificate_check_name(const char *name, struct error *err)
{
	size_t len = strlen(name);

	if (len == 0 || len > CERTIFICATE_NAME_MAX || !strchr(ALNUM, name[0]) || strspn(name, ALNUM "_.-") != len)
		return error_set(err, EINVAL, "'%.80s' is no name of a node: at most %d letters, digits, '_', '.' "
				 "and '-'", name, CERTIFICATE_NAME_MAX);
	return 0;
}

/* The only CN, if it is a name of a node or of a CA. */
static void read_name(X509_NAME *name, char ret[CERTIFICATE_NAME_MAX + 1])
{
	int at = ossl->X509_NAME_get_index_by_NID(name, NID_commonName, -1);
	const ASN1_STRING *text;
	int len;

	ret[0] = '\0';
	if (at < 0 || ossl->X509_NAME_get_index_by_NID(name, NID_commonName, at) >= 0)
		return;
	text = ossl->X509_NAME_ENTRY_get_data(ossl->X509_NAME_get_entry(name, at));
	len = ossl->ASN1_STRING_length(text);
	if (len <= 0 || len > CERTIFICATE_NAME_MAX)
		return;
	memcpy(ret, ossl->ASN1_STRING_get0_data(text), (size_t)len);
	ret[len] = '\0';
	if (strspn(ret, ALNUM "_.- ") != (size_t)len)
		ret[0] = '\0';
}

static time_t read_time(const ASN1_TIME *t)
{
	struct tm tm;

	return ossl->ASN1_TIME_to_tm(t, &tm) ? timegm(&tm) : 0;
}

struct certificate_facts certificate_facts(const X509 *x)
{
	struct certificate_facts f = { 0 };
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	read_name(ossl->X509_get_subject_name(x), f.name);
	read_name(ossl->X509_get_issuer_name(x), f.issuer);
	if (!ossl->ASN1_INTEGER_get_uint64(&f.serial, ossl->X509_get0_serialNumber(x)))
		f.serial = 0;
	f.not_before = read_time(ossl->X509_get0_notBefore(x));
	f.not_after = read_time(ossl->X509_get0_notAfter(x));
	if (ossl->X509_digest(x, ossl->EVP_sha256(), digest, &len))
		for (unsigned i = 0; i < len && i < 32; i++)
			(void)snprintf(f.fingerprint + 2 * i, 3, "%02x", digest[i]);
	ossl->ERR_clear_error();
	return f;
}

void certificate_date(time_t when, char ret[CERTIFICATE_DATE_SIZE])
{
	struct tm tm;

	if (!gmtime_r(&when, &tm) || strftime(ret, CERTIFICATE_DATE_SIZE, "%Y-%m-%d %H:%M UTC", &tm) == 0)
		ret[0] = '\0';
}

int certificate_check_dates(const struct certificate_facts *f, const char *whose, struct error *err)
{
	char date[CERTIFICATE_DATE_SIZE];
	time_t now = time(NULL);

	if (now > f->not_after) {
		certificate_date(f->not_after, date);
		return error_set(err, EKEYEXPIRED, "%s expired on %s; " RENEW, whose, date,
				 f->name[0] ? f->name : "NODE");
	}
	if (now < f->not_before) {
		certificate_date(f->not_before, date);
		return error_set(err, EKEYEXPIRED, "%s is not valid before %s; compare the clocks of the nodes",
				 whose, date);
	}
	return 0;
}

int certificate_refused(const X509 *x, int depth, int why, struct error *err)
{
	const struct certificate_facts f = x ? certificate_facts(x) : (struct certificate_facts){ 0 };
	char whose[128];

	(void)snprintf(whose, sizeof(whose), "the other node's certificate, of '%s',", f.name[0] ? f.name : "?");
	switch (why) {
	case X509_V_ERR_CERT_HAS_EXPIRED:
	case X509_V_ERR_CERT_NOT_YET_VALID:
		if (depth)
			return error_set(err, EKEYEXPIRED, "the CA of this node's cluster (tls/ca.pem, '%s') has "
					 "expired, or is not valid yet; begin a new one: 'godwit tls init'", f.issuer);
		if (certificate_check_dates(&f, whose, err) < 0)
			return -err->code;
		break;
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
		return error_set(err, EACCES, "%s is not signed by the CA of this node's cluster (tls/ca.pem); " RENEW,
				 whose, f.name[0] ? f.name : "NODE");
	case X509_V_ERR_CERT_REVOKED:
		return error_set(err, EACCES, "%s is revoked (tls/crl.pem, serial %llx); " RENEW, whose,
				 (unsigned long long)f.serial, f.name[0] ? f.name : "NODE");
	case X509_V_ERR_CRL_HAS_EXPIRED:
		return error_set(err, EACCES, "the list of revoked certificates (tls/crl.pem) is too old; copy a new "
				 "one from the node that has the CA");
	default:
		break;
	}
	return error_set(err, EACCES, "%s is refused: %s", whose, ossl->X509_verify_cert_error_string(why));
}
