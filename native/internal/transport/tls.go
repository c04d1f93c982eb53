package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// TLS names the files of the server's certificate and of those who may call.
type TLS struct {
	Certificate string   `json:"certificate"`
	Key         string   `json:"key"`
	ClientCA    string   `json:"client_ca"`
	AllowedSANs []string `json:"allowed_sans"`
}

var errPeer = errors.New("the client's certificate names nobody on the allow-list")

func (t *TLS) options(counters *counters) ([]grpc.ServerOption, error) {
	if t == nil {
		return nil, nil
	}
	if _, err := t.certificate(nil); err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}, GetCertificate: t.certificate}
	if t.ClientCA == "" {
		if len(t.AllowedSANs) > 0 {
			return nil, errors.New("allowed_sans needs client_ca: names in unverified certificates prove nothing")
		}
		return []grpc.ServerOption{grpc.Creds(credentials.NewTLS(config))}, nil
	}
	authorities, err := os.ReadFile(t.ClientCA)
	if err != nil {
		return nil, err
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(authorities) {
		return nil, errors.New("client_ca holds no certificate")
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if len(t.AllowedSANs) == 0 || slices.ContainsFunc(names(state.PeerCertificates[0]), t.allows) {
			return nil
		}
		counters.peersRefused.Add(1)
		return errPeer
	}
	return []grpc.ServerOption{grpc.Creds(credentials.NewTLS(config))}, nil
}

// certificate is read for every handshake, so that a rotated one is used without a restart.
func (t *TLS) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
	return &pair, err
}

func (t *TLS) allows(name string) bool { return slices.Contains(t.AllowedSANs, name) }

// names are a certificate's subject alternative names; SPIFFE ids are URIs among them.
func names(certificate *x509.Certificate) []string {
	found := slices.Concat(certificate.DNSNames, certificate.EmailAddresses)
	for _, address := range certificate.IPAddresses {
		found = append(found, address.String())
	}
	for _, uri := range certificate.URIs {
		found = append(found, uri.String())
	}
	return found
}
