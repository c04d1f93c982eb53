"""The rules of the token endpoint (OAuth 2.1 and the RFCs that each module names): no socket, no store, no clock.

Decides what a request asks for, whether its proofs hold, and what a token says. Every refusal is an `OAuthError` with
an error code of an RFC. Must never repeat what it was sent. `authz.control.oauth_app` serves it.
"""
