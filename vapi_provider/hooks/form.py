# SPDX-License-Identifier: Apache-2.0
"""The connection form of Airflow 3.0 and 3.1; later versions read the provider's metadata instead."""

from __future__ import annotations

from typing import Any

from vapi_provider.connection import CONN_FIELDS


def form_widgets() -> dict[str, Any]:
    """
    Return the wtforms field of each field of the connection's extra.

    :return: a field by name; empty where wtforms is not installed, because no form needs them there
    """
    try:
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from wtforms import IntegerField, StringField
        from wtforms.validators import Optional
    except ImportError:
        return {}
    kinds = {"integer": IntegerField, "number": StringField}
    return {
        name: kinds[field["schema"]["type"][0]](
            field["label"],
            widget=BS3TextFieldWidget(),
            description=field["description"],
            validators=[Optional()],
        )
        for name, field in CONN_FIELDS.items()
    }
