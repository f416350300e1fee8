/*
 * openssl.h - OpenSSL, loaded when it is needed
 *
 * Linking it adds 0.8 ms to the 0.6 ms that starting a program takes, and a program
 * starts with every container (engine/base/library.h). Only who talks to another node
 * needs it, and then finds its functions in *ossl, which openssl_load fills once:
 *
 *	if (openssl_load(err) < 0) ...
 *	ossl->SSL_new(context);
 *
 * Many of OpenSSL's names are macros over SSL_ctrl and the like; here those are called.
 * For the files of migrate/tls only.
 */
#pragma once

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "engine/base/error.h"

#define OPENSSL_SSL_FUNCTIONS(X)			\
	X(SSL_CTX_ctrl)					\
	X(SSL_CTX_free)					\
	X(SSL_CTX_get_cert_store)			\
	X(SSL_CTX_new)					\
	X(SSL_CTX_set_ciphersuites)			\
	X(SSL_CTX_set_num_tickets)			\
	X(SSL_CTX_set_options)				\
	X(SSL_CTX_set_verify)				\
	X(SSL_alert_desc_string_long)			\
	X(SSL_certs_clear)				\
	X(SSL_do_handshake)				\
	X(SSL_free)					\
	X(SSL_get0_peer_certificate)			\
	X(SSL_get_error)				\
	X(SSL_get_ex_data)				\
	X(SSL_get_ex_data_X509_STORE_CTX_idx)		\
	X(SSL_new)					\
	X(SSL_read_ex)					\
	X(SSL_set0_rbio)				\
	X(SSL_set0_wbio)				\
	X(SSL_set_accept_state)				\
	X(SSL_set_connect_state)			\
	X(SSL_set_ex_data)				\
	X(SSL_shutdown)					\
	X(SSL_use_PrivateKey)				\
	X(SSL_use_certificate)				\
	X(SSL_write_ex)					\
	X(TLS_method)

#define OPENSSL_CRYPTO_FUNCTIONS(X)			\
	X(ASN1_INTEGER_get_uint64)			\
	X(ASN1_INTEGER_set_uint64)			\
	X(ASN1_INTEGER_free)				\
	X(ASN1_INTEGER_new)				\
	X(ASN1_STRING_get0_data)			\
	X(ASN1_STRING_length)				\
	X(ASN1_TIME_adj)				\
	X(ASN1_TIME_free)				\
	X(ASN1_TIME_to_tm)				\
	X(BIO_clear_flags)				\
	X(BIO_ctrl)					\
	X(BIO_free)					\
	X(BIO_get_data)					\
	X(BIO_meth_free)				\
	X(BIO_meth_new)					\
	X(BIO_meth_set_ctrl)				\
	X(BIO_meth_set_read_ex)				\
	X(BIO_meth_set_write_ex)			\
	X(BIO_new)					\
	X(BIO_new_mem_buf)				\
	X(BIO_s_mem)					\
	X(BIO_set_data)					\
	X(BIO_set_flags)				\
	X(BIO_set_init)					\
	X(BIO_up_ref)					\
	X(ERR_clear_error)				\
	X(ERR_peek_last_error)				\
	X(ERR_reason_error_string)			\
	X(EVP_PKEY_Q_keygen)				\
	X(EVP_PKEY_free)				\
	X(EVP_sha256)					\
	X(PEM_read_bio_PrivateKey)			\
	X(PEM_read_bio_X509)				\
	X(PEM_read_bio_X509_CRL)			\
	X(PEM_write_bio_PrivateKey)			\
	X(PEM_write_bio_X509)				\
	X(PEM_write_bio_X509_CRL)			\
	X(X509V3_EXT_conf_nid)				\
	X(X509V3_set_ctx)				\
	X(X509_CRL_add0_revoked)			\
	X(X509_CRL_free)				\
	X(X509_CRL_get0_by_serial)			\
	X(X509_CRL_new)					\
	X(X509_CRL_set1_lastUpdate)			\
	X(X509_CRL_set1_nextUpdate)			\
	X(X509_CRL_set_issuer_name)			\
	X(X509_CRL_set_version)				\
	X(X509_CRL_sign)				\
	X(X509_CRL_sort)				\
	X(X509_CRL_verify)				\
	X(X509_EXTENSION_free)				\
	X(X509_NAME_ENTRY_get_data)			\
	X(X509_NAME_add_entry_by_txt)			\
	X(X509_NAME_get_entry)				\
	X(X509_NAME_get_index_by_NID)			\
	X(X509_REVOKED_free)				\
	X(X509_REVOKED_new)				\
	X(X509_REVOKED_set_revocationDate)		\
	X(X509_REVOKED_set_serialNumber)		\
	X(X509_STORE_CTX_get0_cert)			\
	X(X509_STORE_CTX_get_error)			\
	X(X509_STORE_CTX_get_error_depth)		\
	X(X509_STORE_CTX_get_ex_data)			\
	X(X509_STORE_CTX_set_error)			\
	X(X509_STORE_add_cert)				\
	X(X509_STORE_add_crl)				\
	X(X509_STORE_set_flags)				\
	X(X509_add_ext)					\
	X(X509_check_host)				\
	X(X509_check_private_key)			\
	X(X509_cmp)					\
	X(X509_digest)					\
	X(X509_free)					\
	X(X509_get0_notAfter)				\
	X(X509_get0_notBefore)				\
	X(X509_get0_pubkey)				\
	X(X509_get0_serialNumber)			\
	X(X509_get_issuer_name)				\
	X(X509_get_subject_name)			\
	X(X509_getm_notAfter)				\
	X(X509_getm_notBefore)				\
	X(X509_new)					\
	X(X509_set_issuer_name)				\
	X(X509_set_pubkey)				\
	X(X509_set_serialNumber)			\
	X(X509_set_subject_name)			\
	X(X509_set_version)				\
	X(X509_sign)					\
	X(X509_time_adj_ex)				\
	X(X509_up_ref)					\
	X(X509_verify)					\
	X(X509_verify_cert_error_string)

/* The functions by their own names, with their own types. */
struct openssl {
#define FUNCTION(name) __typeof__(&name) name;
	OPENSSL_SSL_FUNCTIONS(FUNCTION)
	OPENSSL_CRYPTO_FUNCTIONS(FUNCTION)
#undef FUNCTION
};

/* Set by openssl_load, and the same from then on. */
extern const struct openssl *ossl;

/* By any thread, as often as one likes; -ELIBACC when it isn't installed. */
int openssl_load(struct error *err);

/* Fills *err with what OpenSSL says of the last failure of this thread. */
int openssl_fail(int code, const char *what, struct error *err);

static inline void openssl_x509_freep(X509 **x)
{
	if (*x)
		ossl->X509_free(*x);
}

static inline void openssl_key_freep(EVP_PKEY **key)
{
	if (*key)
		ossl->EVP_PKEY_free(*key);
}

static inline void openssl_crl_freep(X509_CRL **crl)
{
	if (*crl)
		ossl->X509_CRL_free(*crl);
}

static inline void openssl_bio_freep(BIO **bio)
{
	if (*bio)
		(void)ossl->BIO_free(*bio);
}
