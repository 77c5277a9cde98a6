"""Tables and a roofline of the reports of kits: `results` joins the figures, `tables` and `plot` show them."""
