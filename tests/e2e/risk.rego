# Allows everything; a tool may be named after its risk. Reads no results.
package authz

decision := {"effect": "allow", "reason": "granted", "risk": _risk}

default _risk := "destructive"

_risk := input.tool.name if input.tool.name in {"read", "write"}
