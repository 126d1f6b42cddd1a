"""Costs, orders and stages as text and charts."""
