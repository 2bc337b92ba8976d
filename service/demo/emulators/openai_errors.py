"""OpenAI's errors as the API writes them."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """The API refuses: `to_json` is the body of the answer."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.kind = kind

    def to_json(self) -> dict[str, Any]:
        """The body as OpenAI shapes it."""
        return {
            "error": {
                "message": self.message,
                "type": self.kind,
                "param": self.param,
                "code": self.code,
            }
        }


def missing(param: str) -> ApiError:
    """A required parameter is not there."""
    return ApiError(
        400,
        f"Missing required parameter: '{param}'.",
        code="missing_required_parameter",
        param=param,
    )


def unknown(param: str) -> ApiError:
    """A parameter that the API does not know."""
    return ApiError(400, f"Unknown parameter: '{param}'.", code="unknown_parameter", param=param)


def wrong_type(param: str, expected: str, value: object) -> ApiError:
    """A parameter of another type than expected."""
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        int: "an integer",
        float: "a decimal number",
        type(None): "null",
    }
    got = names.get(type(value), "something else")
    return ApiError(
        400,
        f"Invalid type for '{param}': expected {expected}, but got {got} instead.",
        code="invalid_type",
        param=param,
    )


def wrong_value(param: str, value: object, supported: list[str]) -> ApiError:
    """A parameter whose value is not among those supported."""
    listed = ", ".join(f"'{name}'" for name in supported)
    return ApiError(
        400,
        f"Invalid value: '{value}'. Supported values are: {listed}.",
        code="invalid_value",
        param=param,
    )
